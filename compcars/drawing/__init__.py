"""A small renderer of parametric cars, for the sample dataset.

designs  what tells one model from another: proportions, lamps, grille, windows, wheels
surfaces curved shells and the regions cut from them
mesh     quads with a material and a place in the drawing order
car      a design as a mesh (with front, rear and wheels)
camera   where the photographer stands
lighting paint, glass and chrome under a sky
backdrop what is behind and below the car
photo    a web-nature photo
surveillance  a crop from a traffic camera

Axes in metres: x to the front of the car, y to its left, z up from the road.
"""
