//! Lines that a person types, read on a thread of their own: a read from a terminal cannot be called off.

use std::io::{BufRead, Read};
use tokio::sync::mpsc;

/// Longest line read, in bytes; as long as a task may be.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The lines of standard input.
#[derive(Default)]
pub(crate) struct Lines {
    receiver: Option<mpsc::Receiver<String>>,
}

impl Lines {
    /// The next line, without its line break; `None` at the end (Ctrl-D). May be called off and called again.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.receiver.get_or_insert_with(start).recv().await
    }
}

fn start() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            match (&mut stdin).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
