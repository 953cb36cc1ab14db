//! The server as a whole, asked from inside the process: a module for each behaviour.

mod support;

mod objects;
