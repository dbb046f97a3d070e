//! An agent that tells what it is told to: the HTTP that a program on its machine sees of it.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmesh_partition::map::Map;
use ringmesh_types::ids::NodeId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};

/// A host as the agent tells it.
#[derive(Debug, Clone)]
pub(crate) struct FakeHost {
    pub(crate) id: NodeId,
    pub(crate) is_live: bool,
    pub(crate) endpoint: SocketAddr,
}

/// All members of a roster, live, with made-up endpoints.
pub(crate) fn hosts_of(map: &Map) -> Vec<FakeHost> {
    let host = |(number, host): (usize, &ringmesh_partition::map::Host)| FakeHost {
        id: host.node,
        is_live: true,
        endpoint: SocketAddr::from(([127, 0, 0, 1], 20_000 + number as u16)),
    };
    map.parts().roster.iter().enumerate().map(host).collect()
}

/// An agent. It ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub(crate) struct FakeAgent {
    addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// The event that new watchers get at once.
    present: Mutex<Option<String>>,
    events: broadcast::Sender<String>,
    posts: Mutex<Vec<(String, Value)>>,
}

impl FakeAgent {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("loopback can be bound");
        let addr = listener.local_addr().expect("is bound");
        let state = Arc::new(State {
            present: Mutex::new(None),
            events: broadcast::channel(256).0,
            posts: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { addr, state, task }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the agent and waits until its address is free.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Another map counts.
    pub(crate) fn tell_map(&self, map: &Map, before: Option<&Map>, me: NodeId, hosts: &[FakeHost]) {
        let data = json!({
            "generation": map.parts().generation,
            "author": map.parts().author.to_string(),
            "map": STANDARD.encode(map.to_bytes()),
            "before": before.map(|before| STANDARD.encode(before.to_bytes())),
            "hand_over_ms": if before.is_some() { 9_500 } else { 0 },
            "me": me.to_string(),
            "hosts": json_of(hosts),
        });
        let event = format!("event: map\ndata: {data}\n\n");
        let mut present = self.state.present.lock().expect("nobody panics with it");
        *present = Some(event.clone());
        let _ = self.state.events.send(event);
    }

    /// Some hosts are in another state.
    pub(crate) fn tell_hosts(&self, hosts: &[FakeHost]) {
        self.tell(&format!("event: hosts\ndata: {}\n\n", json!({ "hosts": json_of(hosts) })));
    }

    /// Anything, to those who watch now.
    pub(crate) fn tell(&self, text: &str) {
        let _ = self.state.events.send(text.to_owned());
    }

    /// What was posted so far: paths and bodies.
    pub(crate) fn posts(&self) -> Vec<(String, Value)> {
        self.state.posts.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn json_of(hosts: &[FakeHost]) -> Value {
    let host = |host: &FakeHost| {
        json!({ "id": host.id.to_string(), "name": format!("host-{}", host.id.as_u64()), "zone": "a",
            "is_live": host.is_live, "endpoints": [host.endpoint] })
    };
    hosts.iter().map(host).collect()
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // Whoever goes away is not missed.
            let _ = answer(stream, &state).await;
        });
    }
}

async fn answer(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    stream.read_line(&mut request).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "POST" {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let is_known = !path.contains("/missing/");
        state.posts.lock().expect("nobody panics with it").push((path.to_owned(), body));
        return if is_known {
            say(&mut stream, "200 OK", r#"{"ok":"done"}"#).await
        } else {
            unknown(&mut stream).await
        };
    }
    watch(&mut stream, state).await
}

async fn watch(stream: &mut BufReader<TcpStream>, state: &State) -> std::io::Result<()> {
    let (mut events, present) = {
        let present = state.present.lock().expect("nobody panics with it");
        (state.events.subscribe(), present.clone())
    };
    let Some(present) = present else { return unknown(stream).await };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n";
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(present.as_bytes()).await?;
    while let Ok(event) = events.recv().await {
        stream.write_all(event.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn unknown(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    say(stream, "404 Not Found", r#"{"error":"not found","detail":"there is none"}"#).await
}

async fn say(stream: &mut BufReader<TcpStream>, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
