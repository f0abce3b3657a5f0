package outlier_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/internal/outlier"
)

// granted is how many retries are granted now, up to most.
func granted(b *outlier.Budget, most int) int {
	for n := range most {
		if !b.Retry() {
			return n
		}
	}
	return most
}

func TestBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		cfg      outlier.BudgetConfig
		requests int
		want     int
	}{
		{"no requests", outlier.BudgetConfig{}, 0, 100},
		{"20 percent and the minimum", outlier.BudgetConfig{}, 1000, 300},
		{"no minimum", outlier.BudgetConfig{MinPerSecond: -1}, 1000, 200},
		{"neither", outlier.BudgetConfig{MinPerSecond: -1}, 4, 0},
		{"only the minimum", outlier.BudgetConfig{Percent: -1, MinPerSecond: 3}, 1000, 30},
		{"another window", outlier.BudgetConfig{Percent: 50, Window: time.Second, MinPerSecond: 1}, 100, 51},
		{"none", outlier.BudgetConfig{Percent: -1, MinPerSecond: -1}, 1000, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := outlier.NewBudget(tt.cfg)
				for range tt.requests {
					b.Request()
				}
				if s := b.Status(); s != (outlier.BudgetStatus{Requests: int64(tt.requests), Left: int64(tt.want)}) {
					t.Errorf("status %+v", s)
				}
				if got := granted(b, 5000); got != tt.want {
					t.Errorf("%d retries, want %d", got, tt.want)
				}
			})
		})
	}
}

// What was requested and what was tried again is forgotten with the window.
func TestBudgetWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := outlier.NewBudget(outlier.BudgetConfig{MinPerSecond: -1})
		for range 100 {
			b.Request()
		}
		time.Sleep(5 * time.Second)
		for range 50 {
			b.Request()
		}
		if got := granted(b, 10); got != 10 {
			t.Fatalf("%d retries, want 10 of 30", got)
		}
		time.Sleep(5 * time.Second)
		if s, want := b.Status(), (outlier.BudgetStatus{Requests: 50, Retries: 10, Left: 0}); s != want {
			t.Errorf("after the first window %+v, want %+v", s, want)
		}
		time.Sleep(5 * time.Second)
		if s := b.Status(); s != (outlier.BudgetStatus{}) {
			t.Errorf("after the second %+v", s)
		}
		time.Sleep(1000 * time.Hour)
		for range 10 {
			b.Request()
		}
		if got := granted(b, 10); got != 2 {
			t.Errorf("%d retries of 10 requests, want 2", got)
		}
	})
}

// A service that fails altogether is sent a fifth more than without retries, not a multiple.
func TestBudgetBoundsLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := outlier.NewBudget(outlier.BudgetConfig{MinPerSecond: -1})
		requests, retries := 0, 0
		for range 60_000 { // a minute
			requests++
			b.Request()
			retries += granted(b, 100)
			time.Sleep(time.Millisecond)
		}
		if share := float64(retries) / float64(requests); share < 0.19 || share > 0.21 {
			t.Errorf("%d retries of %d requests", retries, requests)
		}
	})
}

func TestBudgetConcurrentUse(t *testing.T) {
	t.Parallel()
	b := outlier.NewBudget(outlier.BudgetConfig{Window: time.Hour, MinPerSecond: -1})
	var retries atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				b.Request()
				if b.Retry() {
					retries.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := retries.Load() + int64(granted(b, 5000)); n != 1600 {
		t.Errorf("%d retries of 8000 requests", n)
	}
}

func BenchmarkBudget(b *testing.B) {
	budget := outlier.NewBudget(outlier.BudgetConfig{})
	b.ReportAllocs()
	for b.Loop() {
		budget.Request()
		budget.Retry()
	}
}

func ExampleBudget() {
	budget := outlier.NewBudget(outlier.BudgetConfig{MinPerSecond: -1})
	for range 10 {
		budget.Request()
	}
	fmt.Println(budget.Retry(), budget.Retry(), budget.Retry())
	// Output: true true false
}
