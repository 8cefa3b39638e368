"""The Interpreter of Lagerkoll, Sweden: it is handed a PDF and answers with the purchase order that it reads there."""
