"""The words that every room speaks: nothing here needs torch, Ray or another room of ours."""
