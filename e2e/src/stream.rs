//! A watch stream in JSON, read by a thread of its own so that a case can do something else meanwhile.

use crate::client::{Connection, read_chunk};
use anyhow::{Result, bail};
use serde_json::Value;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// An open watch.
pub struct Watch {
    received: Receiver<Value>,
}

/// What a wait for an event ended with.
#[derive(Debug)]
pub enum Next {
    /// An event: `type` and `object`.
    Event(Value),
    /// Nothing came within the time; the stream is open.
    Quiet,
    /// The stream has ended.
    Ended,
}

impl Watch {
    pub(crate) fn new(connection: Connection) -> Watch {
        // More than any case lets lie unread.
        let (send, received) = sync_channel(10_000);
        std::thread::spawn(move || read(connection, &send));
        Watch { received }
    }

    /// Waits up to `limit` for the next event.
    pub fn next(&self, limit: Duration) -> Next {
        match self.received.recv_timeout(limit) {
            Ok(event) => Next::Event(event),
            Err(RecvTimeoutError::Timeout) => Next::Quiet,
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }

    /// Every event that has come so far; an error when the stream has ended.
    pub fn drain(&self) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        loop {
            match self.next(Duration::ZERO) {
                Next::Event(event) => events.push(event),
                Next::Quiet => return Ok(events),
                Next::Ended => bail!("the watch stream ended"),
            }
        }
    }
}

fn read(mut connection: Connection, send: &SyncSender<Value>) {
    let mut pending = Vec::new();
    while let Ok(Some(chunk)) = read_chunk(&mut connection) {
        pending.extend(chunk);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Ok(event) = serde_json::from_slice(&line)
                && send.send(event).is_err()
            {
                return;
            }
        }
    }
}
