"""What planning by the built-in planner costs, by the sentence's length and kind and by the number of columns."""
