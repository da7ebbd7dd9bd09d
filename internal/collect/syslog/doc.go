// Package syslog is a listener for syslog over TLS (RFC 5425): messages of RFC
// 5424 with octet counting, from senders with a certificate of the site CA.
//
// It owns: the framing and the parser, the form of a message in the record, and
// the listener ([Listener]). The protocol has no acknowledgement: what a sender
// has written is lost to it when the connection breaks, read or not. So nothing
// is read that there is no room for; while the record takes nothing, the
// sender's own queue grows. It refuses: plain TCP and UDP, and deciding who may
// write, which is collect/entrance.
//
// Start at [Listener].
package syslog
