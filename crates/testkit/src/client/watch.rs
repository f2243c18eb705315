//! A running watch, frame by frame.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::apiserver::protobuf;

/// One event, its object as JSON whatever the encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR".
    pub kind: String,
    /// The object.
    pub object: Value,
}

impl Event {
    /// Name of the object.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// resourceVersion of the object; 0 when it has none.
    pub fn version(&self) -> u64 {
        self.object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// The bookmark that ends the initial events.
    pub fn ends_initial_events(&self) -> bool {
        self.object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    }
}

/// A stream of events.
pub struct WatchStream {
    /// Headers of the answer.
    pub headers: HeaderMap,
    body: Incoming,
    protobuf: bool,
    buffer: BytesMut,
    raw: VecDeque<Bytes>,
}

impl WatchStream {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let protobuf = content_type.unwrap_or_default().contains("protobuf");
        let (head, body) = response.into_parts();
        Self { headers: head.headers, body, protobuf, buffer: BytesMut::new(), raw: VecDeque::new() }
    }

    /// The next event; nothing when the server has ended the stream. Errors: a broken stream or frame.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        match self.next_raw().await? {
            None => Ok(None),
            Some(frame) if self.protobuf => {
                let (kind, object) =
                    protobuf::read_frame(&frame).ok_or_else(|| anyhow!("no protobuf frame"))?;
                let object =
                    protobuf::decode(object).ok_or_else(|| anyhow!("an object that cannot be read"))?;
                Ok(Some(Event { kind, object }))
            }
            Some(frame) => {
                let mut value: Value = serde_json::from_slice(&frame)?;
                let kind = value["type"].as_str().unwrap_or_default().to_owned();
                Ok(Some(Event { kind, object: value["object"].take() }))
            }
        }
    }

    /// The next event, or an error when none comes within `bound` or the stream has ended.
    pub async fn next_within(&mut self, bound: Duration) -> Result<Event> {
        match tokio::time::timeout(bound, self.next()).await {
            Err(_) => bail!("no event within {bound:?}"),
            Ok(event) => event?.ok_or_else(|| anyhow!("the watch has ended")),
        }
    }

    /// The next event that is no bookmark, within `bound`.
    pub async fn next_change(&mut self, bound: Duration) -> Result<Event> {
        let found = async {
            loop {
                let event = self.next().await?.ok_or_else(|| anyhow!("the watch has ended"))?;
                if event.kind != "BOOKMARK" {
                    return Ok(event);
                }
            }
        };
        tokio::time::timeout(bound, found).await.map_err(|_| anyhow!("no change within {bound:?}"))?
    }

    /// The next frame as it was sent, without newline or length.
    pub async fn next_raw(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.raw.pop_front() {
                return Ok(Some(frame));
            }
            let Some(frame) = self.body.frame().await else {
                if !self.buffer.is_empty() {
                    bail!("the stream ends inside a frame");
                }
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.buffer.extend_from_slice(&data);
                self.split();
            }
        }
    }

    fn split(&mut self) {
        while let Some(length) = self.complete() {
            let mut frame = self.buffer.split_to(length);
            if self.protobuf {
                self.raw.push_back(frame.split_off(4).freeze());
            } else if length > 1 {
                frame.truncate(length - 1);
                self.raw.push_back(frame.freeze());
            }
        }
    }

    /// The length of the first frame in the buffer, when all of it is there.
    fn complete(&self) -> Option<usize> {
        if !self.protobuf {
            return self.buffer.iter().position(|b| *b == b'\n').map(|at| at + 1);
        }
        let prefix: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        let length = 4 + u32::from_be_bytes(prefix) as usize;
        (self.buffer.len() >= length).then_some(length)
    }
}
