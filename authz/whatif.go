package authz

// WhatIf returns the snapshot that [Engine.Update] would publish after the
// change, and publishes nothing: the engine's policy stays as it is. The answer
// shares with the current snapshot what the change leaves alone, so that a
// small change costs little, and lives as long as somebody holds it. A change
// without effect returns the current snapshot.
func (e *Engine) WhatIf(change func(*Tx)) *Snapshot { return e.transact(change, false) }
