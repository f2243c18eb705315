//! The store from async code: one thread that writes, one that reads, bounded queues to both.
//!
//! An fsync never runs on the reactor, and a read never waits for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use yurt_store::{Reader, StoreError, Writer};

/// Jobs that may wait for a store thread; a sender waits for a place.
const QUEUE: usize = 512;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Handle on both store threads. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    writer: mpsc::Sender<Job<Writer>>,
    reader: mpsc::Sender<Job<Reader>>,
    failures: Arc<AtomicU64>,
}

/// Why a job of the store gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is closed: the hub is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Front {
    /// Takes both halves of the store onto threads of their own. The second value waits for both to
    /// have closed after the last [`Front`] is dropped.
    pub fn start(writer: Writer, reader: Reader) -> std::io::Result<(Self, Vec<thread::JoinHandle<()>>)> {
        let (writer_sender, writer_thread) = thread_of("store-writer", writer, |writer| {
            if let Err(error) = writer.close() {
                tracing::warn!(%error, "the store did not close cleanly");
            }
        })?;
        let (reader_sender, reader_thread) = thread_of("store-reader", reader, drop)?;
        let front = Front { writer: writer_sender, reader: reader_sender, failures: Arc::default() };
        Ok((front, vec![reader_thread, writer_thread]))
    }

    /// Runs `job` on the writing thread and returns what it gave, in the order of the calls.
    pub async fn write<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, FrontError> {
        let answer = run(&self.writer, job).await;
        if let Err(FrontError::Store(error)) = &answer {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "the store could not write");
        }
        answer
    }

    /// Runs `job` on the reading thread; it sees everything that was committed before.
    pub async fn read<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Reader) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, FrontError> {
        run(&self.reader, job).await
    }

    /// Writes that failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

async fn run<T, R: Send + 'static>(
    queue: &mpsc::Sender<Job<T>>,
    job: impl FnOnce(&mut T) -> Result<R, StoreError> + Send + 'static,
) -> Result<R, FrontError> {
    let (answer, answered) = oneshot::channel();
    let job: Job<T> = Box::new(move |half| {
        let _ = answer.send(job(half));
    });
    queue.send(job).await.map_err(|_| FrontError::Closed)?;
    Ok(answered.await.map_err(|_| FrontError::Closed)??)
}

#[allow(clippy::type_complexity)]
fn thread_of<T: Send + 'static>(
    name: &str,
    mut half: T,
    close: impl FnOnce(T) + Send + 'static,
) -> std::io::Result<(mpsc::Sender<Job<T>>, thread::JoinHandle<()>)> {
    let (sender, mut jobs) = mpsc::channel::<Job<T>>(QUEUE);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Some(job) = jobs.blocking_recv() {
            job(&mut half);
        }
        close(half);
    })?;
    Ok((sender, thread))
}
