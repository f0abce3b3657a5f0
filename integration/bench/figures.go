package main

import "slices"

// figures are those of one window, or the medians of several, or what one side's are as multiples of the other's.
type figures struct {
	Rate          float64 `json:"calls_per_second"`
	P50           float64 `json:"p50_us"`
	P99           float64 `json:"p99_us"`
	CPU           float64 `json:"cpu_us_per_call"`
	CPUServer     float64 `json:"cpu_us_server"`
	CPUService    float64 `json:"cpu_us_service"`
	CPUClient     float64 `json:"cpu_us_client"`
	AllocsClient  float64 `json:"allocs_client"`
	AllocsService float64 `json:"allocs_service"`

	// Others is the share of the machine's CPUs that everybody else used meanwhile, 0 to 1. A ratio has none.
	Others float64 `json:"others_cpu_share,omitzero"`
}

// fields are all figures that can be compared, in the order of the table.
func (f *figures) fields() []*float64 {
	return []*float64{
		&f.Rate, &f.P50, &f.P99, &f.CPU, &f.CPUServer, &f.CPUService, &f.CPUClient, &f.AllocsClient, &f.AllocsService,
	}
}

// combine makes one of several, figure by figure.
func combine(all []figures, f func(values []float64) float64) figures {
	of := func(field func(*figures) float64) float64 {
		values := make([]float64, 0, len(all))
		for i := range all {
			values = append(values, field(&all[i]))
		}
		return f(values)
	}
	var out figures
	for i, field := range out.fields() {
		*field = of(func(f *figures) float64 { return *f.fields()[i] })
	}
	out.Others = of(func(f *figures) float64 { return f.Others })
	return out
}

// over is f as a multiple of other.
func (f *figures) over(other figures) figures {
	var out figures
	for i, field := range out.fields() {
		if d := *other.fields()[i]; d != 0 {
			*field = *f.fields()[i] / d
		}
	}
	return out
}

// median is the middle one, or the mean of the two in the middle. Without values it is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

func lowest(values []float64) float64  { return slices.Min(values) }
func highest(values []float64) float64 { return slices.Max(values) }
