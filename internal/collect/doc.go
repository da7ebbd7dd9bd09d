// Package collect takes into the record what others log: the journals and
// syslog of hosts, and the logs of programs.
//
// It owns: who may write and as whom ([Sources.Admit]), the form in which a
// foreign entry becomes an event ([Writer.Event], [Body]), and what was heard
// of whom ([Sources.Heard]). It refuses: protocols, which are next door
// (collect/journal, collect/syslog, collect/otlp), and judging what was heard
// (collect/silence, collect/gaps).
//
// Start at [Sources] and [Entry].
package collect
