package main

const headerDue = "Skybus-Due-Ns"
