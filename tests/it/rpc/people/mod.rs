//! How people get in, stay in, and get back in.

mod factors;
