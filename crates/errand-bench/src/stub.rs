//! A model that answers at once: call `echo` with 1 KiB as often as the task says, then an answer.
//!
//! It speaks just enough HTTP/1.1 by hand, on one thread per connection, so that what it stamps is when the last byte of
//! a request came and when the last byte of an answer went, with nothing of a server in between.
//!
//! Its own port goes to standard output. A line on standard input is answered with a [`Report`] of everything since the
//! line before.

mod exchange;
mod report;

use anyhow::Context;
use exchange::{Request, answer, read_request};
use report::{Log, Report};
use std::io::{BufRead, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on this machine")?;
    println!("{}", listener.local_addr()?.port());
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = Arc::clone(&log);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let log = Arc::clone(&shared);
            // Who breaks off has had enough; the benchmark notices what is missing.
            std::thread::spawn(move || attend(connection, &log));
        }
    });
    for _ in std::io::stdin().lock().lines() {
        let report: Report = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner)).report();
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn attend(mut connection: TcpStream, log: &Mutex<Log>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1 << 20);
    while let Some(body) = read_request(&mut connection, &mut buffer)? {
        let came = Instant::now();
        let Some(request) = Request::of(&buffer[body.clone()]) else {
            connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let number = log.lock().unwrap_or_else(PoisonError::into_inner).came(&request, came, wall(), body.len());
        let answer = answer(&request, number, body.len());
        connection.write_all(&answer)?;
        let went = Instant::now();
        log.lock().unwrap_or_else(PoisonError::into_inner).went(&request, went);
    }
    Ok(())
}

/// Nanoseconds of the clock that other processes see too.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
