"""Rollouts: from one version to another, in stages, under gates. ``advance`` decides, ``controller`` acts."""
