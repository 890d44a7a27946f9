//! The core by itself: what fits which state, the ledger, the books, what is next, money, the size of requests, and callers that take part.

mod books;
mod callers;
mod ledger;
mod money;
mod next;
mod rejections;
mod requests;
mod sample;
