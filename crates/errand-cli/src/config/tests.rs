use super::*;
use std::collections::BTreeMap;

#[derive(Default)]
struct Fake(BTreeMap<&'static str, &'static str>);

impl Environment for Fake {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }
}

fn resolve(file: &str, variables: &[(&'static str, &'static str)], options: &RunOptions) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("errand.toml");
    std::fs::write(&path, file).unwrap();
    let global = Global { config: Some(path), ..Global::default() };
    let mut fake = Fake(BTreeMap::from([("HOME", "/home/u")]));
    fake.0.extend(variables.iter().copied());
    Config::resolve(&global, options, &fake)
}

#[test]
fn flags_go_before_variables_before_the_file() {
    let file = "model = \"scripted/file\"\nmax_steps = 7\nbudget = 0.25\ntools = [\"echo\"]\n";
    let variables = [("ERRAND_MODEL", "scripted/variable"), ("ERRAND_MAX_STEPS", "8")];
    let options = RunOptions { model: Some("scripted/flag".to_owned()), ..RunOptions::default() };
    let config = resolve(file, &variables, &options).unwrap();
    assert_eq!(config.model.as_deref(), Some("scripted/flag"));
    assert_eq!(config.budget.steps, 8);
    assert_eq!(config.budget.usd, Bound::Some(Usd::from_nanos(250_000_000)));
    assert_eq!(config.tools, Some(vec!["echo".to_owned()]));
    assert_eq!(config.data, PathBuf::from("/home/u/.local/share/errand"));
}

#[test]
fn an_unknown_key_is_named() {
    let error = resolve("budgt = 1\n", &[], &RunOptions::default()).unwrap_err();
    assert_eq!(error.code, "config_invalid");
    assert!(error.message.contains("budgt"), "{}", error.message);
}

#[test]
fn what_is_no_amount_is_refused() {
    let with = |name: &'static str, value: &'static str| resolve("", &[(name, value)], &RunOptions::default());
    assert_eq!(with("ERRAND_BUDGET", "-1").unwrap_err().code, "budget_invalid");
    assert_eq!(with("ERRAND_BUDGET_TOKENS", "many").unwrap_err().code, "number_invalid");
    assert_eq!(with("ERRAND_MAX_STEPS", "1.5").unwrap_err().code, "number_invalid");
    assert_eq!(with("ERRAND_MAX_TIME", "soon").unwrap_err().code, "duration_invalid");
    assert_eq!(with("ERRAND_MODEL_DIALECT", "grpc").unwrap_err().code, "settings_invalid");
}

#[test]
fn without_a_price_tokens_are_bounded() {
    let budget = |options: &RunOptions, known| resolve("", &[], options).unwrap().budget.budget(known);
    let none = RunOptions::default();
    assert_eq!((budget(&none, true).usd, budget(&none, true).tokens), (Some(USD_DEFAULT), None));
    assert_eq!((budget(&none, false).usd, budget(&none, false).tokens), (None, Some(TOKENS_DEFAULT)));
    let free = RunOptions { budget: Some("none".to_owned()), ..RunOptions::default() };
    assert_eq!((budget(&free, false).usd, budget(&free, false).tokens), (None, None));
    let zero = RunOptions { budget: Some("0".to_owned()), ..RunOptions::default() };
    assert_eq!(budget(&zero, true).usd, Some(Usd::ZERO));
}

#[test]
fn approvals_can_be_named_or_all_or_none() {
    let of = |value: &'static str| resolve("", &[("ERRAND_APPROVE", value)], &RunOptions::default()).unwrap().approve;
    assert_eq!(of("shell, python"), Approve::Tools(vec!["shell".to_owned(), "python".to_owned()]));
    assert_eq!(of("always"), Approve::Always);
    assert_eq!(of("never"), Approve::Never);
    assert_eq!(resolve("", &[], &RunOptions::default()).unwrap().approve, Approve::Manifest);
}

#[test]
fn addresses_are_allowed_by_flag_variable_or_file() {
    let of = |file: &str, variables: &[_]| resolve(file, variables, &RunOptions::default()).unwrap().allow_addresses;
    assert!(of("", &[]).is_empty());
    let file = "allow_addresses = [\"10.0.0.0/8\"]\n";
    assert_eq!(of(file, &[]), ["10.0.0.0/8"]);
    assert_eq!(of(file, &[("ERRAND_ALLOW_ADDRESSES", "intra:80, 10.1.1.1")]), ["intra:80", "10.1.1.1"]);
}

#[test]
fn who_searches_is_named_or_has_a_key() {
    let of = |file: &str, variables: &[_]| resolve(file, variables, &RunOptions::default()).unwrap().search;
    assert_eq!(of("", &[]), None);
    let found = of("", &[("TAVILY_API_KEY", "t")]).unwrap();
    assert_eq!((found.provider.as_str(), found.key), ("tavily", Some(errand_tools::Secret::new("t"))));
    let file = "[search]\nprovider = \"searxng\"\nurl = \"http://127.0.0.1:8888\"\n";
    let found = of(file, &[("BRAVE_API_KEY", "b")]).unwrap();
    assert_eq!((found.provider.as_str(), found.key, found.url.as_deref()), ("searxng", None, Some("http://127.0.0.1:8888")));
    let variables = [("ERRAND_SEARCH_PROVIDER", "brave"), ("BRAVE_API_KEY", "b"), ("ERRAND_SEARCH_KEY", "e")];
    assert_eq!(of(file, &variables).unwrap().key, Some(errand_tools::Secret::new("e")));
    let error = resolve("[search]\nkey = \"x\"\n", &[], &RunOptions::default()).unwrap_err();
    assert_eq!(error.code, "config_invalid");
}

#[test]
fn colours_are_off_when_asked_for_or_impossible() {
    let color = |variables: &[_]| resolve("", variables, &RunOptions::default()).unwrap().color;
    assert!(color(&[]));
    assert!(!color(&[("NO_COLOR", "1")]));
    assert!(!color(&[("TERM", "dumb")]));
}

#[test]
fn every_setting_is_documented_and_every_documented_setting_is_read() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/settings.md")).unwrap();
    let sources = [include_str!("../config.rs"), include_str!("file.rs")].concat();
    let quoted = |text: &str, prefix: &str| -> std::collections::BTreeSet<String> {
        let words = text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'));
        words.filter(|word| word.starts_with(prefix) && *word != prefix).map(str::to_owned).collect()
    };
    assert_eq!(quoted(&guide, "ERRAND_"), quoted(&sources, "ERRAND_"));
    let table = include_str!("file.rs").split("pub(super) struct File {").nth(1).and_then(|rest| rest.split("\n}\n").next());
    for line in table.unwrap().lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")) {
        let key = line.split(':').next().unwrap();
        assert!(guide.contains(&format!("`{key}`")) || guide.contains(&format!("[{key}.")), "{key}");
    }
}
