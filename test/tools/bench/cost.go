package main

import "time"

// cost is what something took: on the clock, and of all processors together.
type cost struct{ clock, processor time.Duration }

// costOf measures f.
func costOf(f func() error) (cost, error) {
	before, err := cpuTimeOfAll()
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return cost{}, err
	}
	clock := time.Since(began)
	after, err := cpuTimeOfAll()
	return cost{clock, after - before}, err
}

// mean of two.
func mean(a, b cost) cost {
	return cost{(a.clock + b.clock) / 2, (a.processor + b.processor) / 2}
}
