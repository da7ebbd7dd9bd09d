// Package verify says whether a copy of a log holds, and where it does not.
//
// It reads files only, so it works on a live log, offline and on somebody
// else's copy. It computes every hash from the records; nothing that the
// directory says about itself is believed but for naming the place of a fault.
//
// What a directory alone can prove ends at its newest checkpoint: whoever can
// write files can cut off the end together with the checkpoint that covered
// it, and whoever holds the key can write another log. An anchor, a checkpoint
// kept elsewhere, closes both; without one the report says so ([Report.Unsure]).
//
// It owns: the check and the report. It refuses: repairing anything.
//
// Start at [Log].
package verify
