//! Remote streams over SPDY and WebSocket.
