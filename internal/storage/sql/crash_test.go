package sql

// RunCrashChild is the body of the child process of the crash tests.
func RunCrashChild() {}
