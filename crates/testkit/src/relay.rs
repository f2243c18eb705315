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

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes flow.
    Pass,
    /// A black hole: connections are accepted and stay, no byte is delivered in either direction.
    Hold,
    /// The listener is closed: connects are refused.
    Refuse,
}

/// All that the tasks of a relay share.
#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    link: watch::Sender<Link>,
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
            link: watch::Sender::new(Link::Pass),
            resets: watch::Sender::new(0),
            delay_up: AtomicU64::new(0),
            delay_down: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
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

    /// Everything flows; what was held meanwhile is delivered.
    pub fn heal(&self) {
        self.shared.link.send_replace(Link::Pass);
    }

    /// A black hole, until [`Self::heal`].
    pub fn hold(&self) {
        self.shared.link.send_replace(Link::Hold);
    }

    /// Resets every connection and refuses new ones, until [`Self::heal`].
    pub async fn refuse(&self) {
        self.shared.link.send_replace(Link::Refuse);
        self.reset();
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let address = listener.local_addr().expect("the relay's address");
    let mut link = shared.link.subscribe();
    let mut listener = Some(listener);
    loop {
        let refuse = *link.borrow_and_update() == Link::Refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(
                TcpListener::bind(address)
                    .await
                    .unwrap_or_else(|e| panic!("cannot bind {address} again: {e}")),
            );
        }
        tokio::select! {
            stream = next(listener.as_ref()) => {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, shared.clone()));
            }
            changed = link.changed() => if changed.is_err() { return },
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
    let mut link = shared.link.subscribe();
    link.wait_for(|l| *l != Link::Hold).await.ok();
}
