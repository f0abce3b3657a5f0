package supervise_test

const deathSignal = true
