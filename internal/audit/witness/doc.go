// Package witness lets a second party watch a log: it signs each checkpoint
// after it saw a proof that the log only grew since the last one it signed. A
// log that shows different faces to different readers cannot get both signed.
//
// It owns: cosignatures (C2SP tlog-cosignature, cosignature/v1), the message of
// C2SP tlog-witness's add-checkpoint ([Request]), the witness itself
// ([Witness]), and [Keeper], which gets the checkpoints of our own log signed
// and keeps them beside it. It refuses: HTTP, which is internal/auditwitness,
// and holding up the log: witnesses are asked behind its back.
//
// Start at [Keeper], or at [Witness] for the other side.
package witness
