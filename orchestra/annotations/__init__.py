"""What annotations say: facts about values, and whether one fits another."""
