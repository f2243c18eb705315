//! One connection for many requests, for whoever sends them all the time: a handshake each would cost the
//! apiserver more than the work.

use crate::client::{Answer, Client, Connection, LIMIT, Request, read_body, read_head};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::Write;
use std::time::Instant;

/// A patch that replaces what it names and merges lists by their keys.
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// A patch that replaces what it names.
pub const MERGE: &str = "application/merge-patch+json";

/// A client that keeps its connection.
pub struct Session {
    client: Client,
    connection: Option<Connection>,
}

impl Session {
    /// A session with the client's server; it connects with the first request.
    pub fn new(client: &Client) -> Session {
        Session { client: client.clone(), connection: None }
    }

    /// Sends a request; a kept connection that turns out to be closed is made anew once.
    ///
    /// # Errors
    /// When the server cannot be reached, does not speak HTTP or stops in the middle.
    pub fn send(&mut self, request: &Request) -> Result<Answer> {
        let kept = self.connection.is_some();
        match self.attempt(request) {
            Err(_) if kept => self.attempt(request),
            outcome => outcome,
        }
    }

    /// A JSON object by GET.
    pub fn object(&mut self, path: &str) -> Result<Value> {
        let request = Request::new("GET", path);
        self.send(&request)?.json().with_context(|| request.shown())
    }

    /// Sends a body of that content type and reads a JSON answer.
    pub fn call(
        &mut self,
        method: &'static str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value> {
        let request = Request::new(method, path).body(content_type, serde_json::to_vec(body)?);
        self.send(&request)?.json().with_context(|| request.shown())
    }

    /// Creates an object in the collection `path`.
    pub fn create(&mut self, path: &str, object: &Value) -> Result<Value> {
        self.call("POST", path, "application/json", object)
    }

    fn attempt(&mut self, request: &Request) -> Result<Answer> {
        let start = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.client.connect(LIMIT)?,
        };
        connection.get_mut().write_all(&request.bytes(
            self.client.address(),
            "keep-alive",
            self.client.token(),
        ))?;
        connection.get_mut().flush()?;
        let (status, headers) = read_head(&mut connection)?;
        let body = read_body(&mut connection, &headers, status)?;
        let answer = Answer { status, headers, body, took: start.elapsed() };
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}
