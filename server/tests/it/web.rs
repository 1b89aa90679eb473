//! The listener for monitoring, over real HTTP without a browser: who may what, what is not meant, what is too much.

mod attacks;
mod logins;
mod rights;
mod scene;
mod streams;
mod tls;
