//! `sandbox-runner image`: named layers of Python packages, read-only in the boxes of sessions that ask for one.

use crate::problem;
use clap::Subcommand;
use errand_sandbox::{Error, ImageLock, ImageRecord, Images, ImagesConfig};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The folder that holds the images of this host
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/var/lib/sandbox-runner/images")]
    images: PathBuf,
    /// Where to look for a Python that the system lacks
    #[arg(long, env = "PATH", hide_env_values = true, value_name = "FOLDERS")]
    search_path: Option<std::ffi::OsString>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an image: fetch the wheels of its lock file, check their hashes, unpack and compile them
    Build {
        /// Its name; `data` comes with a lock file: numpy, pandas, matplotlib, openpyxl, python-docx, pypdf, pillow, duckdb
        name: String,
        /// The packages, pinned with hashes as pip-compile and uv write them [default: those it was made from before]
        #[arg(long, value_name = "FILE")]
        lock: Option<PathBuf>,
        /// An option for pip, for example --pip-option=--index-url=https://…; may be repeated
        #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
        pip_option: Vec<String>,
    },
    /// List the images of this host
    List {
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
    /// Remove an image that nobody uses
    Rm {
        /// Its name
        name: String,
    },
}

pub(crate) fn image(args: Args) -> ExitCode {
    match carry_out(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(std::io::stderr(), &problem::told(&error));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(args: Args) -> Result<(), Error> {
    let pip_arguments = match &args.command {
        Command::Build { pip_option, .. } => pip_option.clone(),
        _ => Vec::new(),
    };
    let images = Images::at(args.images, ImagesConfig { search_path: args.search_path, pip_arguments })?;
    match args.command {
        Command::Build { name, lock, .. } => {
            let lock = lock.map_or_else(|| images.lock_of(&name), |file| read(&name, &file))?;
            let image = images.build(&lock, None, &mut |step| tell(std::io::stderr(), &format!("{name}: {step}")))?;
            tell(std::io::stdout(), &format!("{name} {}", image.digest()));
        }
        Command::List { json } => {
            for record in images.list()? {
                tell(std::io::stdout(), &if json { serde_json::json!(record).to_string() } else { line(&record) });
            }
        }
        Command::Rm { name } => images.remove(&name)?,
    }
    Ok(())
}

fn read(name: &str, file: &Path) -> Result<ImageLock, Error> {
    let io = |source| Error::Io { action: "reading a lock file", path: file.into(), source };
    ImageLock::parse(name, &std::fs::read_to_string(file).map_err(io)?)
}

fn line(record: &ImageRecord) -> String {
    let short = record.digest.get(..12).unwrap_or_default();
    let megabytes = record.bytes.div_ceil(1_000_000);
    format!("{}  {short}  {megabytes} MB  {}  {}", record.name, record.python, record.packages.join(" "))
}

fn tell(mut to: impl Write, line: &str) {
    // A reader that has seen enough is no error.
    let _ = writeln!(to, "{line}");
}
