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
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Pieces of one direction of a connection that have left and not arrived.
const UNDER_WAY: usize = 256;
/// What leaves at once on a line with a bounded rate, in bytes.
const PACKET: usize = 1400;

/// All that the tasks of a relay share.
#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    held: watch::Sender<bool>,
    listener: watch::Sender<Option<Arc<TcpListener>>>,
    resets: watch::Sender<u64>,
    strandings: watch::Sender<u64>,
    up: Line,
    down: Line,
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
            strandings: watch::Sender::new(0),
            up: Line::new(),
            down: Line::new(),
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

    /// Every piece of data takes so long: from the client to the target, and back.
    pub fn delay(&self, up: Duration, down: Duration) {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.shared.up.delay.store(micros(up), Ordering::SeqCst);
        self.shared.down.delay.store(micros(down), Ordering::SeqCst);
    }

    /// All connections together carry so many bytes a second, in each direction; 0 = no bound. Connections that
    /// are open read on with large pieces until their next one.
    pub fn rate(&self, bytes_per_second: u64) {
        self.shared.up.rate.store(bytes_per_second, Ordering::SeqCst);
        self.shared.down.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Half-open: the connections that stand now stay, and not a byte of them is delivered any more; new ones
    /// are served.
    pub fn strand(&self) {
        self.shared.strandings.send_modify(|n| *n += 1);
    }

    /// Bytes delivered to the target and to the clients.
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.up.bytes.load(Ordering::SeqCst), self.shared.down.bytes.load(Ordering::SeqCst))
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
    // Who connected before the stranding is stranded, whoever comes later is not.
    let stranded = shared.strandings.subscribe();
    let address = *shared.target.lock().unwrap();
    let target = slot.insert(TcpStream::connect(address).await?);
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (client_read, client_write) = client.split();
    let (target_read, target_write) = target.split();
    let up = Way { shared, line: &shared.up, stranded: stranded.clone() };
    let down = Way { shared, line: &shared.down, stranded };
    tokio::try_join!(up.carry(client_read, target_write), down.carry(target_read, client_write)).map(drop)
}

/// One direction of one connection.
struct Way<'a> {
    shared: &'a Shared,
    line: &'a Line,
    stranded: watch::Receiver<u64>,
}

impl Way<'_> {
    /// Reads pieces, and writes each when it has crossed the line; several are under way at a time.
    async fn carry(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
        let reading = async move {
            loop {
                let mut piece = vec![0; self.line.piece()];
                let n = from.read(&mut piece).await?;
                passing(self.shared).await;
                piece.truncate(n);
                let arrives = self.line.cross(n).await;
                if n == 0 || sender.send((arrives, piece)).await.is_err() {
                    return io::Result::Ok(());
                }
            }
        };
        let writing = async move {
            while let Some((arrives, piece)) = under_way.recv().await {
                sleep_until(arrives).await;
                passing(self.shared).await;
                if self.stranded.has_changed().unwrap_or(false) {
                    return std::future::pending().await;
                }
                to.write_all(&piece).await?;
                self.line.bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            to.shutdown().await
        };
        tokio::try_join!(reading, writing).map(drop)
    }
}

/// One direction of the link, which all connections share.
#[derive(Debug)]
struct Line {
    delay: AtomicU64,
    /// Bytes a second; 0 = no bound.
    rate: AtomicU64,
    /// When all that was sent before has left.
    free: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Line {
    fn new() -> Self {
        Self {
            delay: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
            bytes: AtomicU64::new(0),
        }
    }

    /// How much is read at once: on a slow line connections take turns packet by packet.
    fn piece(&self) -> usize {
        if self.rate.load(Ordering::SeqCst) > 0 { PACKET } else { 64 * 1024 }
    }

    /// Waits until so many bytes have left; returns when they arrive.
    async fn cross(&self, bytes: usize) -> Instant {
        let rate = self.rate.load(Ordering::SeqCst);
        let mut left = Instant::now();
        if rate > 0 {
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let mut free = self.free.lock().unwrap();
            left = (*free).max(left) + takes;
            *free = left;
        }
        sleep_until(left).await;
        left + Duration::from_micros(self.delay.load(Ordering::SeqCst))
    }
}

async fn passing(shared: &Shared) {
    shared.held.subscribe().wait_for(|held| !held).await.ok();
}
