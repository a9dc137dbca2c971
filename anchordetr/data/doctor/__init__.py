"""The data doctor: report, repair and preview of a data set."""
