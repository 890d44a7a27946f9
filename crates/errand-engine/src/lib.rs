//! Ports and the one driver (map being completed with the modules below).
pub mod ports;
