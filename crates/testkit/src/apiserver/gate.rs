//! A TCP stream that can be held: nothing is read, nothing is written, nobody is told.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The switch that all streams of a server share.
#[derive(Debug, Default)]
pub struct Gate {
    held: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// Nothing flows from now on.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Everything flows again, what arrived meanwhile first.
    pub fn release(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        self.held.store(false, Ordering::SeqCst);
        waiting.drain(..).for_each(Waker::wake);
    }

    fn pass(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock().unwrap();
        if !self.held.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A stream behind a gate. The socket is shared so that it can be reset from outside.
pub struct Gated {
    /// The socket.
    pub stream: Arc<TcpStream>,
    /// Its switch.
    pub gate: Arc<Gate>,
}

impl AsyncRead for Gated {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.gate.pass(cx));
            ready!(self.stream.poll_read_ready(cx))?;
            ready!(self.gate.pass(cx));
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Gated {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.gate.pass(cx));
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
