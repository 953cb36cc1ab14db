//! Services, policies and DNS as rule sets and records.
