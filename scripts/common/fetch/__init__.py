"""One verified download: specification, HTTP, partial file, stamps and file formats."""
