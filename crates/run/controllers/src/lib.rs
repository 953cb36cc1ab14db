//! Joins controller decisions to the API.
