package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent trades memory for time while requests come in: the policy is a
	// large heap of few pointers that rarely changes, and collecting it at
	// every doubling costs a quarter of all CPU under load.
	gcPercent = 400
	// memoryInterval is how often an idle process looks whether it holds
	// memory that it does not need.
	memoryInterval = 5 * time.Second
	// spare is how much garbage an idle process may keep.
	spare = 4 << 20
)

// tendMemory lets the heap grow while there is work and gives it back when
// there is none. GOGC, if it is set, is the operator's word and is left alone.
func tendMemory(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	debug.FreeOSMemory()
	sample := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	var cycles uint64
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(sample)
		// No collection since the last look means that there is little work.
		idle := sample[0].Value.Uint64() == cycles
		if idle && sample[1].Value.Uint64() > sample[2].Value.Uint64()+spare {
			debug.FreeOSMemory()
			metrics.Read(sample)
		}
		cycles = sample[0].Value.Uint64()
	}
}
