//! The worker's side: reads requests from its standard input, runs the code, answers on its standard output.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::allocator;
use super::frame::{self, Ended, PIECE_BYTES_MAX, Reply, Request, VERSION};
use super::harden;
use super::interpreter::{Interpreter, Sink};
use crate::exec::Stream;

/// Depth of native calls that the interpreter's own bound on recursion never needs; only what is touched is memory.
const STACK_BYTES: usize = 64 << 20;
/// How long output waits for more of it.
const OUTPUT_WAITS: Duration = Duration::from_millis(20);
/// The exit status when the engine said something that is no request, or the interpreter broke.
const BROKEN: u8 = 70;

/// Runs a worker of tier T0 until its engine is gone. A binary that is its own worker calls this first of all and leaves
/// its streams and threads alone: standard input and output belong to the engine.
///
/// The status is 0 when the engine closed the pipe, 65 when memory ran out and 70 when something broke.
pub fn worker() -> ExitCode {
    let Ok(input_and_output) = streams() else { return ExitCode::from(BROKEN) };
    let builder = std::thread::Builder::new().name("interpreter".to_owned()).stack_size(STACK_BYTES);
    let worker = builder.spawn(move || serve(input_and_output));
    let ended = worker.map_err(|_| ()).and_then(|worker| worker.join().map_err(|_| ()));
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Broken)) | Err(()) => ExitCode::from(BROKEN),
    }
}

/// The engine is gone, or is none.
#[derive(Debug)]
struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Broken {
        Broken
    }
}

/// The standard streams without the buffers and locks of the library.
pub(crate) fn streams() -> std::io::Result<(File, File)> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        Ok((input.into(), std::io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;
        let input = std::io::stdin().as_handle().try_clone_to_owned()?;
        Ok((input.into(), std::io::stdout().as_handle().try_clone_to_owned()?.into()))
    }
}

fn serve((mut input, output): (File, File)) -> Result<(), Broken> {
    warm_up();
    let mut requests = Requests { bytes: Vec::new(), used: 0 };
    let (memory_bytes, output_bytes) = match requests.next(&mut input)? {
        Some(Request::Start { memory_bytes, output_bytes }) => (memory_bytes, output_bytes),
        Some(Request::Run { .. }) => return Err(Broken),
        None => return Ok(()),
    };
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    let walls = harden::raise(memory_bytes, &input, &output) | if allocator::count(memory) { harden::COUNTED } else { 0 };
    let mut interpreter = Interpreter::new(memory);
    let mut out = Out::new(output, output_bytes);
    Reply::Ready { version: VERSION, walls }.write(&mut out.frames);
    // Before any code: a worker that is gone without this word has run nothing.
    out.send()?;
    while let Some(request) = requests.next(&mut input)? {
        let Request::Run { wall_ms, code } = request else { return Err(Broken) };
        run(&mut interpreter, Duration::from_millis(wall_ms), code, &mut out)?;
    }
    Ok(())
}

/// Touches what the first piece of code would have to wait for, while nobody waits.
fn warm_up() {
    struct Nowhere;
    impl Sink for Nowhere {
        fn print(&mut self, _: &str) -> bool {
            true
        }
        fn breathe(&mut self) -> bool {
            true
        }
    }
    let code = "def f(x):\n    return [str(i * x) for i in range(x)]\nprint(len(f(3)), f'{1.5:.2f}')";
    Interpreter::new(usize::MAX / 4).run(code, Duration::from_secs(1), &mut Nowhere);
}

fn run(interpreter: &mut Interpreter, wall: Duration, code: &str, out: &mut Out) -> Result<(), Broken> {
    let before = harden::processor_time();
    harden::bound_processor_time(before, wall);
    let started = Instant::now();
    out.begin();
    let ended = interpreter.run(code, wall, out);
    out.write(Stream::Stderr, ended.trace.as_bytes())?;
    if let Some(value) = &ended.value {
        out.flush_piece();
        Reply::Value(value).write(&mut out.frames);
    }
    let cpu = harden::processor_time().zip(before).map_or_else(|| started.elapsed(), |(after, before)| after - before);
    out.end(&ended, cpu)
}

/// Requests as they come in.
struct Requests {
    bytes: Vec<u8>,
    used: usize,
}

impl Requests {
    /// None when the engine has closed its end between two requests.
    fn next(&mut self, input: &mut File) -> Result<Option<Request<'_>>, Broken> {
        self.bytes.drain(..self.used);
        self.used = 0;
        loop {
            match frame::request(&self.bytes).map_err(|_| Broken)? {
                Some((_, length)) => {
                    self.used = length;
                    break;
                }
                None => {
                    let mut chunk = [0; 16 << 10];
                    match input.read(&mut chunk)? {
                        0 if self.bytes.is_empty() => return Ok(None),
                        0 => return Err(Broken),
                        count => self.bytes.extend_from_slice(&chunk[..count]),
                    }
                }
            }
        }
        // The same bytes again: what was found borrows them, and only now they stay as they are.
        let found = frame::request(&self.bytes[..self.used]).map_err(|_| Broken)?;
        Ok(found.map(|(request, _)| request))
    }
}

/// What goes to the engine: output in pieces, as soon as one is full or old, or the code ended.
struct Out {
    output: File,
    /// Whole frames, not yet sent.
    frames: Vec<u8>,
    /// Standard output, not yet in a frame.
    piece: Vec<u8>,
    sent_at: Instant,
    is_lost: bool,
    bytes_max: u64,
    stdout: Count,
    stderr: Count,
}

#[derive(Clone, Copy, Default)]
struct Count {
    sent: u64,
    all: u64,
}

impl Count {
    /// The part of `bytes` that may still be sent.
    fn admit<'a>(&mut self, bytes: &'a [u8], max: u64) -> &'a [u8] {
        self.all = self.all.saturating_add(bytes.len() as u64);
        let room = usize::try_from(max - self.sent).unwrap_or(usize::MAX);
        let admitted = &bytes[..bytes.len().min(room)];
        self.sent += admitted.len() as u64;
        admitted
    }
}

impl Out {
    fn new(output: File, bytes_max: u64) -> Out {
        let (stdout, stderr) = (Count::default(), Count::default());
        let (frames, piece) = (Vec::with_capacity(2 * PIECE_BYTES_MAX), Vec::with_capacity(PIECE_BYTES_MAX));
        Out { output, frames, piece, sent_at: Instant::now(), is_lost: false, bytes_max, stdout, stderr }
    }

    fn begin(&mut self) {
        (self.stdout, self.stderr) = (Count::default(), Count::default());
        self.sent_at = Instant::now();
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Broken> {
        let count = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        let mut bytes = count.admit(bytes, self.bytes_max);
        if stream == Stream::Stderr {
            self.flush_piece();
            for piece in bytes.chunks(PIECE_BYTES_MAX) {
                Reply::Output(stream, piece).write(&mut self.frames);
            }
            return Ok(());
        }
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES_MAX - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = rest;
            if self.piece.len() == PIECE_BYTES_MAX {
                self.send()?;
            }
        }
        Ok(())
    }

    fn flush_piece(&mut self) {
        if !self.piece.is_empty() {
            Reply::Output(Stream::Stdout, &self.piece).write(&mut self.frames);
            self.piece.clear();
        }
    }

    fn send(&mut self) -> Result<(), Broken> {
        self.flush_piece();
        self.sent_at = Instant::now();
        let sent = self.output.write_all(&self.frames);
        self.frames.clear();
        Ok(sent?)
    }

    fn end(&mut self, ended: &super::interpreter::Ended, cpu: Duration) -> Result<(), Broken> {
        self.flush_piece();
        let (stdout_bytes, stderr_bytes) = (self.stdout.all, self.stderr.all);
        let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        Reply::Ended(Ended { how: ended.how, code: ended.code, stdout_bytes, stderr_bytes, cpu_us }).write(&mut self.frames);
        self.send()
    }
}

impl Sink for Out {
    fn print(&mut self, text: &str) -> bool {
        self.is_lost |= self.write(Stream::Stdout, text.as_bytes()).is_err();
        !self.is_lost
    }

    fn breathe(&mut self) -> bool {
        if !self.piece.is_empty() && self.sent_at.elapsed() > OUTPUT_WAITS {
            self.is_lost |= self.send().is_err();
        }
        !self.is_lost
    }
}
