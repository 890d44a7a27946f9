use super::run::{begin, failed, finish, say, terminal, view};
use super::start::Order;
use super::{Context, command_line};
use crate::args::{Demo, DemoName};
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::files::Workspace;
use crate::follow::{Ending, follow};
use crate::host::Host;
use crate::site::Site;
use crate::text;
use crate::view::Audience;
use crate::view::lines::Tone;
use errand_core::RunId;
use errand_tools::SearchSettings;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Measurements of penguins; source and licence: `tests/fixtures/README.md`.
const PENGUINS: &[u8] = include_bytes!("../../../../tests/fixtures/penguins-raw.csv");
/// Roman numerals and their values.
const CASES: &[u8] = include_bytes!("../../../../tests/fixtures/roman-cases.csv");

const DATA_TASK: &str = "Look at the CSV file in the workspace. Clean it and report what was dropped. Find which grouping \
    makes the largest difference in which measurement, and give the statistics of each group. Draw a chart of the means \
    with the chart tool, write report.md with the numbers and the chart, and tell the result in a few sentences.";
const WEB_TASK: &str = "Which ferry to the island of Holm takes a bicycle on a Sunday in winter, when does it sail, and what \
    does a return cost with the bicycle? Search, read the pages you find and the news, and name your sources.";
const CODE_TASK: &str = "Write roman.py with a function to_int(numeral) that reads a Roman numeral and raises ValueError \
    for what is none. cases.csv in the workspace lists numerals and their values; an empty value means that the numeral \
    is none. Write tests that read these cases, run them, and mend the program until all pass.";

/// `errand demo`: the real engine and the real sandbox; a script in place of a model, unless there is a model.
pub(super) async fn demo(context: &Context, args: Demo) -> Result<Exit, Error> {
    let mut config = Config::resolve(&context.global, &args.options, &context.environment())?;
    let (script, task, given) = match args.name {
        DemoName::Web => ("scripted/web", WEB_TASK, None),
        DemoName::Data => ("scripted/data", DATA_TASK, Some(("penguins-raw.csv", PENGUINS))),
        DemoName::Code => ("scripted/code", CODE_TASK, Some(("cases.csv", CASES))),
    };
    if given.is_none() && args.file.is_some() {
        return Err(Error::new("arguments_invalid", "`errand demo web` works on its own site: leave the file out"));
    }
    let site = match args.name {
        DemoName::Web => Some(Site::serve().await?),
        DemoName::Data | DemoName::Code => None,
    };
    if let Some(site) = &site {
        search_there(&mut config, site);
    }
    if config.model.is_none() && errand_models::choose_by_key(&config.models).is_none() && config.models.base_url.is_none() {
        config.model = Some(script.to_owned());
    }
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("errand-demo-{}", args.name.word())));
    check_output(&output)?;
    let mut host = Host::open(&config, &command_line("demo"))?;
    let given = given.map(|(name, bytes)| Given::new(&config, args.name, args.file, name, bytes)).transpose();
    let begun = match given {
        Ok(given) => {
            let files = given.as_ref().map_or(&[][..], |given| std::slice::from_ref(&given.path));
            let order = Order { task, files, images: &[], after: None, assistant: None };
            begin(&mut host, &config, context.audience(), order).await
        }
        Err(error) => Err(error),
    };
    let run = match begun {
        Ok(run) => run,
        Err(error) => return failed(host, error).await,
    };
    let followed = async {
        let mut terminal = terminal(context, &config)?;
        let mut view = view(context, &config, &host, run, 0).await?;
        let ending = follow(&mut host, &mut view, &mut terminal).await?;
        Ok::<_, Error>((terminal, ending))
    };
    let (terminal, ending) = match followed.await {
        Ok(followed) => followed,
        Err(error) => return failed(host, error).await,
    };
    let copied = match ending {
        Ending::Settled(Exit::Done) => copy_out(&host, run, &output).await,
        _ => Ok(Vec::new()),
    };
    let exit = finish(context, &config, host, run, terminal, Ok(ending)).await?;
    let copied = copied?;
    if !copied.is_empty() && context.audience() == Audience::People {
        say(Tone::Plain, &config, &format!("the files lie in {}: {}", text::path(&output), copied.join(", ")));
    }
    Ok(exit)
}

/// Lets the run's tools reach the demo's site, and search there and nowhere else.
fn search_there(config: &mut Config, site: &Site) {
    let url = Some(format!("http://{}", site.address));
    config.search = Some(SearchSettings { provider: "searxng".to_owned(), key: None, url, path: None });
    config.allow_addresses.push(site.address.to_string());
    if config.tools.is_none() {
        config.tools = Some(["search", "fetch", "calculate"].map(str::to_owned).to_vec());
    }
}

impl DemoName {
    fn word(self) -> &'static str {
        match self {
            DemoName::Web => "web",
            DemoName::Data => "data",
            DemoName::Code => "code",
        }
    }
}

/// The file that the demo works on. What was written for it is removed again.
struct Given {
    path: PathBuf,
    folder: Option<PathBuf>,
}

impl Given {
    /// The user's file, or the one that comes with the program. The scripts know files by their names, so the cases of
    /// the user get the name of ours.
    fn new(config: &Config, demo: DemoName, file: Option<PathBuf>, name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let own = match (demo, file) {
            (DemoName::Data, Some(path)) => {
                check_csv(&path)?;
                return Ok(Self { path, folder: None });
            }
            (DemoName::Code | DemoName::Web, Some(path)) => {
                Some(std::fs::read(&path).map_err(|error| unreadable(&path, &error))?)
            }
            (_, None) => None,
        };
        let folder = config.data.join(format!("demo-{}", std::process::id()));
        let path = folder.join(name);
        let failed =
            |error: std::io::Error| Error::new("output_failed", format!("{} cannot be written: {error}", text::path(&path)));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(&path, own.as_deref().unwrap_or(bytes)).map_err(failed)?;
        Ok(Self { path: path.clone(), folder: Some(folder) })
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Whether it is named as a CSV file and begins with lines of text.
fn check_csv(path: &Path) -> Result<(), Error> {
    let mut first = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(8 << 10).read_to_end(&mut first).map_err(|error| unreadable(path, &error))?;
    let is_named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    if is_named && !first.contains(&0) && first.contains(&b'\n') {
        return Ok(());
    }
    let message =
        format!("{} is no CSV file: `errand demo data` takes a text file NAME.csv with a header and rows", text::path(path));
    Err(Error::new("arguments_invalid", message))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let code = if error.kind() == std::io::ErrorKind::NotFound { "file_missing" } else { "file_unreadable" };
    Error::new(code, format!("{} cannot be read: {error}", text::path(path)))
}

/// Nothing that lies in the folder is written over, so it must be new or empty.
fn check_output(output: &Path) -> Result<(), Error> {
    let shown = text::path(output);
    match std::fs::read_dir(output).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let message = format!("the folder {shown} is not empty: remove it, or name another one with --output");
            Err(Error::new("output_exists", message))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::new("output_failed", format!("{shown} cannot be used: {error}"))),
    }
}

/// Copies what the run made to the host.
async fn copy_out(host: &Host, run: RunId, output: &Path) -> Result<Vec<String>, Error> {
    let log = host.driver.load(run).await?;
    let made = Workspace::of(&log, host.folder.blobs())?.list().into_iter().filter(|file| file.made);
    let made: Vec<String> = made.map(|file| file.path).collect();
    let Some(workspace) = log.workspace().filter(|_| !made.is_empty()) else { return Ok(Vec::new()) };
    let fetched = errand_tools::fetch_all(&**host.folder.blobs(), &workspace.manifest, Some(&made), output).await;
    fetched.map_err(|error| crate::toolbox::workspace(&error))?;
    Ok(made.iter().map(|path| text::one_line(path, 100)).collect())
}
