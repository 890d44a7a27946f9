//! The core by itself: what fits which state, the ledger, the books, what is next, money, and the size of requests.

mod books;
mod ledger;
mod money;
mod next;
mod rejections;
mod requests;
mod sample;
