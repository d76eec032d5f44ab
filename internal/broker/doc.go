// Package broker answers the file system's questions. For a credential it goes one way, once: who is asking
// (identity), what may they have (policy), the token (refresh), the record (audit), and then the bytes.
//
// It also keeps what a tree's clients wrote beside their login, recognises the surrogate refresh tokens that it
// handed out, takes a login made inside a tree into the vault, and answers the client's refresh lock.
package broker
