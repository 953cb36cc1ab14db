//! Joins scheduling decisions to the API.
