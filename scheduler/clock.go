package scheduler

type clock struct{}
