package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMeanwhile(t *testing.T) {
	t.Run("one goes on until the other has returned", func(t *testing.T) {
		calls, twice := 0, make(chan struct{})
		err := meanwhile(func(n int) error {
			assert.Equal(t, calls+1, n)
			if calls++; calls == 2 {
				close(twice)
			}
			return nil
		}, func() error {
			<-twice
			return nil
		})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, calls, 2)
	})
	broken, failed := errors.New("broken"), errors.New("failed")
	t.Run("one that fails is not called again", func(t *testing.T) {
		calls, once := 0, make(chan struct{})
		err := meanwhile(func(int) error {
			if calls++; calls == 1 {
				close(once)
			}
			return broken
		}, func() error {
			<-once
			return failed
		})
		require.ErrorIs(t, err, broken)
		require.ErrorIs(t, err, failed, "either is told")
		assert.Equal(t, 1, calls)
	})
}

func TestBirthsOfTwoTimesAreTakenTogether(t *testing.T) {
	a := births{secrets: []float64{1, 4}, accounts: []float64{2}, floor: []float64{9}, without: 1, apart: 10}
	b := births{secrets: []float64{2, 3}, accounts: []float64{1}, floor: []float64{8}, without: 2, apart: 20}
	assert.Equal(t, births{secrets: []float64{1, 2, 3, 4}, accounts: []float64{1, 2}, floor: []float64{8, 9}, without: 3, apart: 15}, a.and(b))
}
