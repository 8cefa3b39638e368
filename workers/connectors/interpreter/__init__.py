"""The Interpreter of Lagerkoll, Sweden: it receives a PDF and returns the purchase order that it reads in it."""
