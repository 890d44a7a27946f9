//! How far the making of an image is.

/// A step of making an image; shown to people by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageProgress {
    /// Somebody else makes it already.
    Waiting,
    /// A package is looked up and its wheel is fetched: which, its number and how many there are.
    Fetching {
        /// `NAME==VERSION`.
        package: String,
        /// From 1.
        number: usize,
        /// All packages.
        of: usize,
    },
    /// The wheels are unpacked.
    Unpacking,
    /// The modules are compiled.
    Compiling,
    /// All of it is read once for its digest.
    Sealing,
}

impl std::fmt::Display for ImageProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImageProgress::Waiting => f.write_str("waiting for another process that makes it"),
            ImageProgress::Fetching { package, number, of } => write!(f, "fetching {package} ({number} of {of})"),
            ImageProgress::Unpacking => f.write_str("unpacking"),
            ImageProgress::Compiling => f.write_str("compiling"),
            ImageProgress::Sealing => f.write_str("reading it for its digest"),
        }
    }
}
