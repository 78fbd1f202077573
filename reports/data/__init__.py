"""The numbers of the reports: frames in, small frames and view models out."""
