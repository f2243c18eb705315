//! The store from async code: one thread that writes, one that reads, bounded queues to both.
//!
//! An fsync never runs on the reactor, and a read never waits for one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use yurt_store::{Reader, StoreError, Writer};

use crate::clock;
use crate::tasks;

/// Jobs that may wait for a store thread; a sender waits for a place.
const QUEUE: usize = 512;
/// A failure that goes on is logged again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(60);

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// What a store thread is told.
enum Order<T> {
    Do(Job<T>),
    Close,
}

/// Handle on both store threads. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    writer: mpsc::Sender<Order<Writer>>,
    reader: mpsc::Sender<Order<Reader>>,
    failures: Arc<Failures>,
    events_dropped: Arc<AtomicU64>,
    evicted: Arc<AtomicU64>,
}

/// What could not be written since the start.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
    /// The reason that was logged last, and when.
    said: Mutex<Option<(&'static str, Instant)>>,
}

impl Failures {
    /// Counts a failure, and logs it unless it is the same as a moment ago.
    fn note(&self, error: &StoreError) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = clock::monotonic();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let again = said.is_some_and(|(reason, at)| reason == error.reason() && now - at < SAY_AGAIN);
        if !again {
            *said = Some((error.reason(), now));
            tracing::warn!(%error, "the store could not write; more of the same is only counted");
        }
    }
}

/// The ends of both store threads, to be waited for.
pub struct StoreThreads {
    reader: oneshot::Receiver<()>,
    writer: oneshot::Receiver<()>,
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
    /// Takes both halves of the store onto threads of their own, which [`Front::close`] ends.
    pub fn start(writer: Writer, reader: Reader) -> std::io::Result<(Self, StoreThreads)> {
        let (events_dropped, evicted) = (writer.events_dropped(), writer.evicted());
        let (writer_sender, writer) = thread_of("store-writer", writer, |writer| {
            if let Err(error) = writer.close() {
                tracing::warn!(%error, "the store did not close cleanly");
            }
        })?;
        let (reader_sender, reader) = thread_of("store-reader", reader, drop)?;
        let front = Front {
            writer: writer_sender,
            reader: reader_sender,
            failures: Arc::default(),
            events_dropped,
            evicted,
        };
        Ok((front, StoreThreads { reader, writer }))
    }

    /// Closes the store when all that was asked before is done, whoever still holds a [`Front`]: the WAL is
    /// carried over into the file, and the lock is given up. False when a disk did not let it within `bound`.
    pub async fn close(&self, threads: StoreThreads, bound: Duration) -> bool {
        let closing = async {
            // The reader first: the last connection takes the WAL away.
            let _ = self.reader.send(Order::Close).await;
            let _ = threads.reader.await;
            let _ = self.writer.send(Order::Close).await;
            let _ = threads.writer.await;
        };
        tokio::time::timeout(bound, closing).await.is_ok()
    }

    /// Runs `job` on the writing thread and returns what it gave, in the order of the calls.
    pub async fn write<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, FrontError> {
        let answer = run(&self.writer, job).await;
        if let Err(FrontError::Store(error)) = &answer {
            self.failures.note(error);
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

    /// Events that the journal has dropped since the start, the newest being kept.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    /// Grows whenever the store gives the room of something away: what was kept before may not be there now.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Writes that failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.count.load(Ordering::Relaxed)
    }
}

async fn run<T, R: Send + 'static>(
    queue: &mpsc::Sender<Order<T>>,
    job: impl FnOnce(&mut T) -> Result<R, StoreError> + Send + 'static,
) -> Result<R, FrontError> {
    let (answer, answered) = oneshot::channel();
    let job: Job<T> = Box::new(move |half| {
        let _ = answer.send(job(half));
    });
    queue.send(Order::Do(job)).await.map_err(|_| FrontError::Closed)?;
    Ok(answered.await.map_err(|_| FrontError::Closed)??)
}

/// A thread that runs the orders for one half of the store, and how to hear of its end.
fn thread_of<T: Send + 'static>(
    name: &'static str,
    mut half: T,
    close: impl FnOnce(T) + Send + 'static,
) -> std::io::Result<(mpsc::Sender<Order<T>>, oneshot::Receiver<()>)> {
    let (sender, mut orders) = mpsc::channel::<Order<T>>(QUEUE);
    let (over, ended) = oneshot::channel();
    let work = move || {
        while let Some(Order::Do(job)) = orders.blocking_recv() {
            job(&mut half);
        }
        close(half);
        let _ = over.send(());
    };
    thread::Builder::new().name(name.to_owned()).spawn(move || tasks::thread_body(name, work))?;
    Ok((sender, ended))
}
