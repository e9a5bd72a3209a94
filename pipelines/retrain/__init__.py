"""Retraining: a challenger is trained, judged against the champion, and promoted or kept out."""
