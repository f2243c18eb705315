//! A TCP relay on loopback whose link can be cut in every way that a link fails.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// All that the tasks of a relay share.
#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    held: watch::Sender<bool>,
    listener: watch::Sender<Option<Arc<TcpListener>>>,
    resets: watch::Sender<u64>,
    delay_up: AtomicU64,
    delay_down: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
}

/// A running relay. It ends, with its connections, when this is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1 and relays to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port for the relay");
        let address = listener.local_addr().expect("the relay's address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            held: watch::Sender::new(false),
            listener: watch::Sender::new(Some(Arc::new(listener))),
            resets: watch::Sender::new(0),
            delay_up: AtomicU64::new(0),
            delay_down: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(shared.clone()));
        Self { address, shared, task }
    }

    /// Where it listens; the same for its whole life.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `https://ADDRESS`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// New connections go to another target.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Everything flows; what was held meanwhile is delivered. The port is open when this returns.
    pub fn heal(&self) {
        self.shared.held.send_replace(false);
        if self.shared.listener.borrow().is_none() {
            self.shared.listener.send_replace(Some(Arc::new(listen_again(self.address))));
        }
    }

    /// A black hole, until [`Self::heal`]: connections are accepted and stay, no byte is delivered in either
    /// direction.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Resets every connection and refuses new ones, until [`Self::heal`]. The port is closed when this returns.
    pub async fn refuse(&self) {
        let closing = self.shared.listener.send_replace(None).map(|l| Arc::downgrade(&l));
        self.reset();
        while closing.as_ref().is_some_and(|l| l.strong_count() > 0) {
            tokio::task::yield_now().await;
        }
    }

    /// Resets every connection; new ones are served.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|n| *n += 1);
    }

    /// Every piece of data waits so long: from the client to the target, and back.
    pub fn delay(&self, up: Duration, down: Duration) {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_up.store(micros(up), Ordering::SeqCst);
        self.shared.delay_down.store(micros(down), Ordering::SeqCst);
    }

    /// Bytes delivered to the target and to the clients.
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.bytes_up.load(Ordering::SeqCst), self.shared.bytes_down.load(Ordering::SeqCst))
    }

    /// Connections accepted since the start, and open now.
    pub fn connections(&self) -> (u64, u64) {
        (self.shared.accepted.load(Ordering::SeqCst), self.shared.open.load(Ordering::SeqCst))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.reset();
        self.task.abort();
    }
}

fn listen_again(address: SocketAddr) -> TcpListener {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.unwrap_or_else(|e| panic!("the relay cannot listen on {address} again: {e}"))
}

async fn accept(shared: Arc<Shared>) {
    let mut listeners = shared.listener.subscribe();
    loop {
        let listener = listeners.borrow_and_update().clone();
        tokio::select! {
            stream = next(listener.as_deref()) => {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, shared.clone()));
            }
            changed = listeners.changed() => if changed.is_err() { return },
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            return stream;
        }
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let mut resets = shared.resets.subscribe();
    let mut target = None;
    let reset = tokio::select! {
        _ = relay(&mut client, &mut target, &shared) => false,
        _ = resets.changed() => true,
    };
    if reset {
        client.set_zero_linger().ok();
        target.iter().for_each(|t| drop(t.set_zero_linger()));
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn relay(client: &mut TcpStream, slot: &mut Option<TcpStream>, shared: &Shared) -> io::Result<()> {
    passing(shared).await;
    let address = *shared.target.lock().unwrap();
    let target = slot.insert(TcpStream::connect(address).await?);
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (client_read, client_write) = client.split();
    let (target_read, target_write) = target.split();
    let up = pump(client_read, target_write, shared, &shared.delay_up, &shared.bytes_up);
    let down = pump(target_read, client_write, shared, &shared.delay_down, &shared.bytes_down);
    tokio::try_join!(up, down).map(drop)
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    delay: &AtomicU64,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        passing(shared).await;
        if n == 0 {
            return to.shutdown().await;
        }
        let micros = delay.load(Ordering::SeqCst);
        if micros > 0 {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        passing(shared).await;
        to.write_all(&buffer[..n]).await?;
        count.fetch_add(n as u64, Ordering::SeqCst);
    }
}

async fn passing(shared: &Shared) {
    shared.held.subscribe().wait_for(|held| !held).await.ok();
}
