"""Result sets, metrics, transitions and statistics: pure functions on one table of results."""
