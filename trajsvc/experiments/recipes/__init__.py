"""Recipes, one module for each paper."""
