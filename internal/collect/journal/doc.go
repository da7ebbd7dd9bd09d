// Package journal is the door of systemd-journal-upload: POST
// /sites/NAME/journal/upload with a body in the journal export format, which
// may go on for as long as there are entries.
//
// It owns: the parser of the format ([Reader]), the form of a journal entry in
// the record, and the door ([Door]). Entries go to the record while the body
// still comes; the answer, 202, is given when all of them are on disk, because
// the sender then moves its cursor behind them. It refuses: deciding who may
// write, which is collect/entrance.
//
// Start at [Door].
package journal
